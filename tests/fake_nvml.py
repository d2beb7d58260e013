"""The part of pynvml that is used, over GPUs that are dicts."""

from types import SimpleNamespace
from typing import Any


class FakeNvml:
    """The part of pynvml that is used; a GPU is a dict, and a value that is an error is raised."""

    class NVMLError(Exception):
        pass

    def __init__(self, *gpus: dict[str, Any] | Exception, init_error: str | None = None) -> None:
        self.gpus, self.init_error, self.open = gpus, init_error, False
        self.driver: str | bytes = b"570.1"

    def nvmlInit(self) -> None:  # noqa: N802
        if self.init_error:
            raise self.NVMLError(self.init_error)
        self.open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        return _value(self.gpus[index])

    def nvmlDeviceGetMigMode(self, handle: dict[str, Any]) -> tuple[int, int]:  # noqa: N802
        if "instances" not in handle:
            raise self.NVMLError("Not Supported")
        return 1, 1

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: dict[str, Any]) -> int:  # noqa: N802
        return len(handle["instances"])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: dict[str, Any], index: int) -> Any:  # noqa: N802
        return _value(handle["instances"][index])

    def nvmlDeviceGetMemoryInfo(self, handle: dict[str, Any]) -> Any:  # noqa: N802
        total, free = _value(handle["memory"])
        return SimpleNamespace(total=total, free=free)

    def nvmlDeviceGetName(self, handle: dict[str, Any]) -> str | bytes:  # noqa: N802
        return handle["name"]  # type: ignore[no-any-return]

    def nvmlDeviceGetUUID(self, handle: dict[str, Any]) -> str:  # noqa: N802
        return "GPU-" + str(_text(handle["name"]))

    def nvmlSystemGetDriverVersion(self) -> str | bytes:  # noqa: N802
        return self.driver

    def nvmlDeviceGetCurrentDriverModel(self, handle: dict[str, Any]) -> int:  # noqa: N802
        if "driver_model" not in handle:
            raise self.NVMLError("Not Supported")
        return handle["driver_model"]  # type: ignore[no-any-return]

    def nvmlDeviceGetComputeRunningProcesses(self, handle: dict[str, Any]) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in _value(handle.get("processes", []))]


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _value(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value
