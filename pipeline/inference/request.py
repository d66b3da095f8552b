"""What a request to a served model may hold, and the gate before MLflow's server that refuses what may not.

MLflow's scoring server answers some wrong requests as if they were right (an unknown parameter, two kinds of input) and
some with status 500 (no Content-Type, deeply nested JSON, a number of 5,000 digits), repeats the whole request in its
error messages, and has no hook. So the served model puts a gate before the function that answers requests. How large a
request is, MLflow does not ask either; `limits.py` counts while it is read, and here its content is counted.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence, Sized
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.runtime.errors import InputError

LARGEST_BODY = 2_000_000  # bytes: more than any request within the other limits needs
LONGEST_TEXT = 100_000  # characters
MOST_TEXTS = 10_000
MOST_CHARACTERS = 200_000  # in all texts
MOST_TOKENS = 20_000  # in all texts, the end of each counted: a second of work on two cores
MOST_WORDS = 5_000  # generated in all: texts x count x max_length; a word costs as much as four tokens
MOST_SUGGESTIONS = 50_000  # in all: texts x count
LONGEST_NAME = 60  # characters of the request that a message repeats


class TooLargeError(InputError):
    """A request beyond one of the limits, which a server answers with status 413."""


class Options(BaseModel):
    """The parameters of a request; the defaults become those of the model's signature."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    task: Literal["score", "suggest", "generate"] = "score"
    count: int = Field(default=5, ge=1, le=100)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    top_k: int = Field(default=0, ge=0, le=1_000_000)  # 0: all words
    max_length: int = Field(default=100, ge=1, le=1000)
    seed: int = Field(default=1, ge=0, lt=2**63)
    over_types: bool = False
    tokenized: bool = False


class Request(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # With the first fault, checking ends: a message for each of a million would fill the memory.
    inputs: list[Annotated[str, Field(max_length=LONGEST_TEXT)]] = Field(max_length=MOST_TEXTS, fail_fast=True)
    params: Options = Options()

    @property
    def words(self) -> int:
        """That may have to be generated."""
        options = self.params
        return len(self.inputs) * options.count * options.max_length if options.task == "generate" else 0

    @property
    def suggestions(self) -> int:
        """Words that are to be suggested."""
        return len(self.inputs) * self.params.count if self.params.task == "suggest" else 0


_JSON = TypeAdapter[Any](Any)

# What a request looks like: MLflow makes the model's signature of this and the type hints of `predict`, and these
# parameters become the defaults.
EXAMPLE = (["What aren't you understanding about this?!"], Options().model_dump())


def read_request(body: bytes, content_type: str | None) -> Request:
    """The request in an HTTP message.

    Raises:
        TooLargeError: it is beyond a limit.
        InputError: it is not JSON, or not the JSON of a request.
    """
    if not re.fullmatch(r"application/json\s*(;\s*charset=utf-8\s*)?", (content_type or "").strip(), re.IGNORECASE):
        got = (content_type or "none")[:LONGEST_NAME]
        raise InputError(f"send JSON with the header Content-Type: application/json; got {got}")
    check_body(len(body))
    try:
        return _checked(_JSON.validate_json(body))
    except ValidationError as error:
        raise InputError(_message(error)) from None


def check_body(size: int) -> None:
    """Raise TooLargeError where a body of `size` bytes is too large."""
    if size > LARGEST_BODY:
        raise TooLargeError(f"a request has at most {LARGEST_BODY} bytes; send several")


def check_request(texts: list[str], params: dict[str, Any]) -> Request:
    """As `read_request`, of texts and parameters that are Python's already."""
    return _checked({"inputs": texts, "params": params})


def check_tokens(texts: Sequence[Sized], options: Options) -> int:
    """The tokens of all texts, the end of each counted; every sentence that is generated begins with its text again.

    Raises:
        TooLargeError: there are too many.
    """
    tokens = (sum(map(len, texts)) + len(texts)) * (options.count if options.task == "generate" else 1)
    if tokens > MOST_TOKENS:
        raise TooLargeError(f"all texts together have {tokens} tokens; at most {MOST_TOKENS}, send several")
    return tokens


def _checked(content: Any) -> Request:
    if not isinstance(content, dict) or "inputs" not in content:
        where = "inputs: is missing; a request" if isinstance(content, dict) else "a request is an object; it"
        raise InputError(f'{where} looks like {{"inputs": ["a sentence"], "params": {{"task": "score"}}}}')
    _check_names(content, Request, "")
    if isinstance(content.get("params"), dict):
        _check_names(content["params"], Options, "params.")
    try:
        request = Request.model_validate(content)
    except ValidationError as error:
        kind = TooLargeError if error.errors()[0]["type"] in ("too_long", "string_too_long") else InputError
        raise kind(_message(error)) from None
    characters = sum(map(len, request.inputs))
    if characters > MOST_CHARACTERS:
        raise TooLargeError(f"all texts together have {characters} characters; at most {MOST_CHARACTERS}, send several")
    if request.words > MOST_WORDS:
        raise TooLargeError(
            f"{len(request.inputs)} texts x count {request.params.count} x max_length {request.params.max_length} may "
            f"be {request.words} words; at most {MOST_WORDS} are generated for a request"
        )
    if request.suggestions > MOST_SUGGESTIONS:
        raise TooLargeError(f"texts x count is {request.suggestions}; at most {MOST_SUGGESTIONS} words are suggested")
    return request


def _check_names(content: dict[str, Any], model: type[BaseModel], where: str) -> None:
    """Refuse the first unknown name; pydantic would make a message for each."""
    for name in content:
        if name not in model.model_fields:
            shown = " ".join(name.split())[:LONGEST_NAME]
            raise InputError(f"{where}{shown}: unknown; there are {', '.join(model.model_fields)}")


def _message(error: ValidationError) -> str:
    """What is wrong, on one line, without the request itself."""
    first, *others = error.errors(include_url=False, include_input=False, include_context=False)
    where = "".join(f"{part}." for part in first["loc"])[:-1]
    text = "should be an object" if first["type"] == "model_type" else first["msg"]
    return (f"{where}: " if where else "") + text + (f" (and {len(others)} more)" if others else "")


def refusal(error: InputError) -> tuple[int, str]:
    """The status and the JSON that a server answers."""
    status = 413 if isinstance(error, TooLargeError) else 400
    return status, json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": str(error)})


def put_gate_before_server(tokens: Callable[[list[str], bool], Sequence[Sized]]) -> None:
    """In the process of `mlflow models serve`, refuse wrong and too large requests before MLflow sees them.

    Args:
        tokens: splits each text; the second argument says that they are `tokenized`.
    """
    if "mlflow.pyfunc.scoring_server.app" not in sys.modules:
        return
    from mlflow.pyfunc import scoring_server

    answer = scoring_server.invocations

    def checked_invocations(data: bytes, content_type: str | None, *context: Any) -> Any:
        try:
            request = read_request(data, content_type)
            check_tokens(tokens(request.inputs, request.params.tokenized), request.params)
        except InputError as error:
            status, body = refusal(error)
            return scoring_server.InvocationsResponse(body, status, "application/json")
        return answer(data, "application/json", *context)

    scoring_server.invocations = checked_invocations  # pyrefly: ignore[bad-assignment]
