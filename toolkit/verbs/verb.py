"""What makes a function of a request a verb: it can be called with the fields of the request as well."""

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, overload

from toolkit.gguf.inputs import remembering_inputs
from toolkit.reporter import LOGGING, Reporter
from toolkit.verbs.values import check_values

Fields = ParamSpec("Fields")
Request = TypeVar("Request")
Result = TypeVar("Result")


class Verb(Generic[Fields, Request, Result]):
    """A function from a request to a result.

    `convert("checkpoint", profile="q4_k_m")` makes the request by itself, and
    `convert(ConvertRequest("checkpoint", profile="q4_k_m"), reporter)` also says who hears of the progress.
    """

    def __init__(self, request_type: Callable[Fields, Request], run: Callable[[Request, Reporter], Result]) -> None:
        update_wrapper(self, run)
        self.request_type = request_type
        self._run = run
        self.__signature__ = inspect.signature(request_type).replace(
            return_annotation=inspect.signature(run).return_annotation
        )

    @overload
    def __call__(self, request: Request, /, reporter: Reporter = ...) -> Result: ...

    @overload
    def __call__(self, *args: Fields.args, **kwargs: Fields.kwargs) -> Result: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Result:
        """Run the verb for a request, or for the request that these fields make."""
        with remembering_inputs():
            if args and isinstance(args[0], self.request_type):  # type: ignore[arg-type]  # it is a class in every use
                check_values(args[0])
                return self._run(*args, **({"reporter": LOGGING} if len(args) == 1 else {}) | kwargs)
            request = self.request_type(*args, **kwargs)
            check_values(request)
            return self._run(request, LOGGING)


def verb(
    request_type: Callable[Fields, Request],
) -> Callable[[Callable[[Request, Reporter], Result]], Verb[Fields, Request, Result]]:
    """Return a decorator that makes a function of a request and a reporter a verb."""
    return lambda run: Verb(request_type, run)
