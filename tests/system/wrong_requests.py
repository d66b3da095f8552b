"""Requests that a server refuses, each with a part of its reason, and any that JSON can say."""

import json
from typing import Any

from hypothesis import strategies as st

from pipeline.inference.request import LONGEST_TEXT


def with_inputs(inputs: Any, **params: Any) -> str:
    return json.dumps({"inputs": inputs, "params": params})


WRONG: dict[str, tuple[str | bytes, str]] = {
    "not JSON": ("{nope", "Invalid JSON"),
    "empty": ("", "Invalid JSON"),
    "not UTF-8": (b'{"inputs": ["\xff"]}', "Invalid JSON"),
    "null": ("null", "object"),
    "a list": ('["the cat"]', "object"),
    "no inputs": ('{"texts": ["the cat"]}', "inputs: is missing"),
    "params alone": ('{"params": {}}', "inputs: is missing"),
    "unknown key": ('{"inputs": ["a"], "parameters": {}}', "parameters: unknown"),
    "inputs twice": ('{"inputs": ["a"], "instances": ["a"]}', "instances: unknown"),
    "chat": ('{"messages": [{"role": "user", "content": "a"}]}', "inputs: is missing"),
    "completion": ('{"inputs": ["a"], "prompt": "a"}', "prompt: unknown"),
    "inputs null": (with_inputs(None), "inputs: Input should be a valid list"),
    "a bare text": (with_inputs("the cat"), "inputs: Input should be a valid list"),
    "a null text": (with_inputs([None]), "inputs.0: Input should be a valid string"),
    "numbers": (with_inputs(["a", 1, 2.5]), "inputs.1: Input should be a valid string"),
    "nested": (with_inputs([["the"], ["cat"]]), "inputs.0: Input should be a valid string"),
    "columns": (with_inputs({"text": ["the"]}), "inputs: Input should be a valid list"),
    "records": ('{"dataframe_records": [{"text": "a"}]}', "inputs: is missing"),
    "split": ('{"dataframe_split": {"columns": ["text"], "data": [["a"]]}}', "inputs: is missing"),
    "params null": ('{"inputs": ["a"], "params": null}', "params: "),
    "params a list": ('{"inputs": ["a"], "params": []}', "params: "),
    "unknown parameter": (with_inputs(["a"], temprature=1.0), "params.temprature: unknown; there are task, count"),
    "unknown task": (with_inputs(["a"], task="sing"), "params.task: Input should be 'score', 'suggest' or 'generate'"),
    "a number as text": (with_inputs(["a"], count="5"), "params.count: "),
    "a fraction": (with_inputs(["a"], count=5.5), "params.count: "),
    "a bool": (with_inputs(["a"], count=True), "params.count: "),
    "a bool as number": (with_inputs(["a"], temperature=True), "params.temperature: "),
    "no count": (with_inputs(["a"], count=0), "params.count: "),
    "not a number": (with_inputs(["a"], temperature=float("nan")), "params.temperature: "),
    "infinite": ('{"inputs": ["a"], "params": {"temperature": 1e999}}', "params.temperature: "),
    "frozen": (with_inputs(["a"], temperature=0), "params.temperature: "),
    "a large seed": (with_inputs(["a"], seed=2**64), "params.seed: "),
    "a huge seed": ('{"inputs": ["a"], "params": {"seed": ' + "9" * 5000 + "}}", "Invalid JSON: number out of range"),
    "a long text": (with_inputs(["a " * LONGEST_TEXT]), "inputs.0: String should have at most 100000"),
    "many texts": (with_inputs(["a"] * 20_000), "inputs: List should have at most 10000"),
    "much text": (with_inputs(["a" * LONGEST_TEXT] * 11), "1100000 characters"),
    "much to write": (with_inputs(["a"] * 100, task="generate", count=100), "1000000 words"),
    "half a character": ('{"inputs": ["\\ud800"]}', "Invalid JSON"),
    "deep": ('{"inputs": ' + "[" * 100_000 + "]" * 100_000 + "}", "Invalid JSON: recursion limit"),
}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.sampled_from(["inputs", "params", "task", "count", "x"]), children, max_size=4)
    ),
    max_leaves=10,
)
likely = st.fixed_dictionaries(
    {"inputs": st.lists(st.text(max_size=30), max_size=3) | json_values},
    optional={
        "params": st.dictionaries(
            st.sampled_from(["task", "count", "temperature", "top_k", "max_length", "seed", "x"]),
            st.sampled_from(["score", "suggest", "generate"]) | st.integers(-2, 20) | st.floats(0, 2) | json_values,
            max_size=3,
        )
    },
)
