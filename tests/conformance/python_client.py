"""The official Python client against a router: each line on standard input names a scenario, each line on standard output is what it saw.

    python python_client.py http://127.0.0.1:8000/v1 KEY
"""

import json
import sys

import openai
from pydantic import BaseModel

url, key = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=30)
MODEL = "tiny-moe"
MESSAGES = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tells the weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "array"}},
                "required": ["city"],
            },
        },
    }
]


class Person(BaseModel):
    name: str
    age: int


def chat(**more):
    return client.chat.completions.create(model=MODEL, messages=MESSAGES, **more)


def models():
    return {"ids": [model.id for model in client.models.list()], "one": client.models.retrieve(MODEL).owned_by}


def whole():
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    answer = raw.parse()
    return {
        "text": answer.choices[0].message.content,
        "finish": answer.choices[0].finish_reason,
        "object": answer.object,
        "usage": answer.usage.model_dump(),
        "kv": raw.headers["x-causeway-kv"],
    }


def stream():
    text, finishes, usage = "", [], None
    for chunk in chat(stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finishes += [choice.finish_reason] if choice.finish_reason else []
    return {"text": text, "finishes": finishes, "completion_tokens": usage.completion_tokens}


def helper():
    events = []
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES) as running:
        for event in running:
            events.append(event.type)
        final = running.get_final_completion()
    return {"text": final.choices[0].message.content, "events": sorted(set(events))}


def choices():
    return [[choice.index, choice.message.content] for choice in chat(n=3).choices]


def logprobs():
    of_chat = chat(logprobs=True, top_logprobs=2).choices[0].logprobs.content
    of_completion = client.completions.create(model=MODEL, prompt="x", logprobs=2).choices[0].logprobs
    return {
        "chat": "".join(bytes(token.bytes).decode("latin-1") for token in of_chat).encode("latin-1").decode(),
        "logprobs": [token.logprob for token in of_chat],
        "tops": [len(token.top_logprobs) for token in of_chat],
        "completion": of_completion.token_logprobs,
        "offsets": of_completion.text_offset[:1],
    }


def completion():
    whole = client.completions.create(model=MODEL, prompt="Once upon a time")
    pieces = client.completions.create(model=MODEL, prompt=[1, 2, 3], stream=True)
    return {"whole": whole.choices[0].text, "stream": "".join(piece.choices[0].text for piece in pieces)}


def tools():
    message = chat(tools=TOOLS).choices[0]
    call = message.message.tool_calls[0]
    return {
        "finish": message.finish_reason,
        "content": message.message.content,
        "type": call.type,
        "name": call.function.name,
        "arguments": json.loads(call.function.arguments),
    }


def tools_streamed():
    name, arguments, finish, pieces = "", "", None, 0
    for chunk in chat(tools=TOOLS, stream=True):
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                name += call.function.name or ""
                arguments += call.function.arguments or ""
                pieces += 1
    return {"name": name, "arguments": json.loads(arguments), "finish": finish, "pieces": pieces}


def parsed():
    answer = client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Person)
    person = answer.choices[0].message.parsed
    return {"type": type(person).__name__, "name": person.name, "age": person.age}


def error_of(call):
    try:
        call()
    except openai.OpenAIError as error:
        classes = [base.__name__ for base in type(error).__mro__]
        seen = {"class": classes[0], "api_error": "APIError" in classes}
        for field in ("status_code", "code", "param", "type"):
            seen[field] = getattr(error, field, None)
        return seen
    return {"class": None}


def errors():
    wrong = openai.OpenAI(base_url=url, api_key="wrong", max_retries=0)
    nobody = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key=key, max_retries=0)
    create = client.chat.completions.create
    return {
        "temperature": error_of(lambda: chat(temperature=3)),
        "min_tokens": error_of(lambda: chat(extra_body={"min_tokens": -1})),
        "schema": error_of(lambda: chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "stone"}}})),
        "model": error_of(lambda: create(model="gpt-9", messages=MESSAGES)),
        "no messages": error_of(lambda: create(model=MODEL, messages=[])),
        "too long": error_of(lambda: create(model=MODEL, messages=[{"role": "user", "content": "word " * 9000}])),
        "key": error_of(lambda: wrong.models.list()),
        "nobody": error_of(lambda: nobody.models.list()),
    }


def refused():
    return error_of(lambda: chat())


def timeout():
    return error_of(lambda: client.with_options(timeout=0.5).chat.completions.create(model=MODEL, messages=MESSAGES))


SCENARIOS = {
    run.__name__: run
    for run in (models, whole, stream, helper, choices, logprobs, completion, tools, tools_streamed, parsed, errors, refused, timeout)
}

for line in sys.stdin:
    print(json.dumps(SCENARIOS[line.strip()]()), flush=True)
