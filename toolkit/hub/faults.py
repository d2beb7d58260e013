"""What goes wrong with the hub, in one line that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from toolkit.errors import HubError, InputError
from toolkit.hub.model import HubModel


@contextmanager
def explained(model: HubModel) -> Iterator[None]:
    """Turn what the library raises into one line that says what to do."""
    from huggingface_hub import errors

    place = f"https://huggingface.co/{model.repo}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(f"{model} is gated: {_how_to_get_in(place)}") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise InputError(
            f"{model.repo} is neither a directory here nor a model on the hub that you may see: check the spelling; "
            "for a private one run `hf auth login`, or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{model.repo} has no revision {model.revision!r}; see {place}/tree/main") from error
    except errors.RemoteEntryNotFoundError as error:
        raise HubError(f"a file of {model} is gone from the hub: {reason(error)}; try again") from error
    except (errors.HTTPError, OSError) as error:
        raise HubError(f"{model} cannot be fetched from the hub: {reason(error)}") from error


def _how_to_get_in(place: str) -> str:
    from huggingface_hub import get_token

    if get_token() is None:
        return f"accept its licence at {place}, then run `hf auth login`, or set HF_TOKEN"
    return (
        f"your token's account has no access: accept its licence at {place} and wait for approval if it asks for that"
    )


def reason(error: Exception) -> str:
    """Return the first line of the error below, which says more than the library's advice."""
    cause = error.__cause__ or error
    response = getattr(cause, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code} from {response.url.host}"
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(cause).__name__
