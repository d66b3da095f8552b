"""What a request to a served model may hold, and the gate before MLflow's server that refuses what may not.

MLflow's scoring server answers some wrong requests as if they were right (an unknown parameter, two kinds of input) and
some with status 500 (no Content-Type, deeply nested JSON, a number of 5,000 digits), repeats the whole request in its
error messages, and has no hook. So the served model puts a gate before the function that answers requests.
"""

import json
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.runtime.errors import InputError

LONGEST_TEXT = 100_000  # characters
MOST_TEXTS = 10_000
MOST_CHARACTERS = 1_000_000  # in all texts: seconds of work, where MLflow gives up after 60
MOST_WORDS = 20_000  # generated in all: texts x count x max_length


class Options(BaseModel):
    """The parameters of a request; the defaults become those of the model's signature."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    task: Literal["score", "suggest", "generate"] = "score"
    count: int = Field(default=5, ge=1, le=100)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    top_k: int = Field(default=0, ge=0, le=1_000_000)  # 0: all words
    max_length: int = Field(default=100, ge=1, le=1000)
    seed: int = Field(default=1, ge=0, lt=2**63)


class Request(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    inputs: list[Annotated[str, Field(max_length=LONGEST_TEXT)]] = Field(max_length=MOST_TEXTS)
    params: Options = Options()


def read_request(body: bytes, content_type: str | None) -> Request:
    """The request in an HTTP message.

    Raises:
        InputError: it is not JSON, or not the JSON of a request.
    """
    if not re.fullmatch(r"application/json\s*(;\s*charset=utf-8\s*)?", (content_type or "").strip(), re.IGNORECASE):
        raise InputError(f"send JSON with the header Content-Type: application/json; got {content_type or 'none'}")
    return _checked(lambda: Request.model_validate_json(body))


def check_request(texts: list[str], params: dict[str, Any]) -> Request:
    """As `read_request`, of texts and parameters that are Python's already."""
    return _checked(lambda: Request.model_validate({"inputs": texts, "params": params}))


def _checked(read: Callable[[], Request]) -> Request:
    try:
        request = read()
    except ValidationError as error:
        raise InputError(_message(error)) from None
    characters = sum(map(len, request.inputs))
    if characters > MOST_CHARACTERS:
        raise InputError(f"all texts together have {characters} characters; at most {MOST_CHARACTERS}, send several")
    options = request.params
    words = len(request.inputs) * options.count * options.max_length
    if options.task == "generate" and words > MOST_WORDS:
        raise InputError(
            f"{len(request.inputs)} texts x count {options.count} x max_length {options.max_length} may be {words} "
            f"words; at most {MOST_WORDS} are generated for a request"
        )
    return request


def _message(error: ValidationError) -> str:
    """What is wrong, on one line, without the request itself."""
    first, *others = error.errors(include_url=False, include_input=False, include_context=False)
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = Options if first["loc"][0] == "params" else Request
        text = f"unknown; there are {', '.join(known.model_fields)}"
    elif first["type"] == "missing":
        text = 'is missing; a request looks like {"inputs": ["a sentence"], "params": {"task": "score"}}'
    else:
        text = first["msg"]
    more = f" (and {len(others)} more)" if others else ""
    return f"{where}: {text}{more}" if where else f"{text}{more}"


def put_gate_before_server() -> None:
    """In the process of `mlflow models serve`, refuse wrong requests with status 400 before MLflow sees them."""
    if "mlflow.pyfunc.scoring_server.app" not in sys.modules:
        return
    from mlflow.pyfunc import scoring_server

    answer = scoring_server.invocations

    def checked_invocations(data: bytes, content_type: str | None, *context: Any) -> Any:
        try:
            read_request(data, content_type)
        except InputError as error:
            body = json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": str(error)})
            return scoring_server.InvocationsResponse(body, 400, "application/json")
        return answer(data, "application/json", *context)

    scoring_server.invocations = checked_invocations
