"""One file of a data set on the hub."""

from pathlib import Path

from toolkit.errors import HubError
from toolkit.hub.faults import reason
from toolkit.hub.transfer import TIMEOUT_SECONDS, download


def fetch_dataset_file(repo: str, file: str) -> Path:
    """Return where the cache holds a file of a data set; the hub is asked only for what the cache lacks.

    Raises HubError if it cannot be fetched.
    """
    import huggingface_hub
    from huggingface_hub import errors

    cached = huggingface_hub.try_to_load_from_cache(repo, file, repo_type="dataset")
    if isinstance(cached, str):
        return Path(cached)
    try:
        # Asked first, because the library retries a transfer for half a minute where there is no network.
        huggingface_hub.HfApi().dataset_info(repo, timeout=TIMEOUT_SECONDS)
        return download(repo, file, "main", lambda _bytes: None, "dataset")
    except (errors.HTTPError, OSError) as error:
        raise HubError(
            f"{file} of the data set {repo} cannot be fetched from the hub: {reason(error)}; "
            "fetch it once where there is a network, or give a text of your own with --text FILE"
        ) from error
