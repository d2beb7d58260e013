"""The conversations that chat templates are tried on."""

from toolkit.measures.chat_rendering import Conversation

_SYSTEM = {"role": "system", "content": "You are a careful assistant."}
_QUESTION = {"role": "user", "content": "What is the weather in Zürich?  Answer in two lines.\n"}
_ANSWER = {"role": "assistant", "content": "It rains.\nTake an umbrella. ☔"}
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Return the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Its name"}},
            "required": ["city"],
        },
    },
}
_CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call00001",
            "type": "function",
            "function": {"name": "get_weather", "arguments": {"city": "Zürich"}},
        }
    ],
}
_RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": '{"sky": "rain"}'}

CONVERSATIONS = (
    Conversation("one question", (_QUESTION,)),
    Conversation("a system prompt", (_SYSTEM, _QUESTION)),
    Conversation("several turns", (_SYSTEM, _QUESTION, _ANSWER, {"role": "user", "content": "And tomorrow?"})),
    Conversation("a finished answer", (_QUESTION, _ANSWER), add_generation_prompt=False),
    Conversation("tools offered", (_SYSTEM, _QUESTION), (_TOOL,)),
    Conversation("a tool called", (_QUESTION, _CALL, _RESULT), (_TOOL,)),
)
