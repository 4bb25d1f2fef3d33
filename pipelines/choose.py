"""Loaders by name, and which of them is the fastest here: `--loader auto`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from pipelines.contract import Draws, Loader
from pipelines.damage import DamagedError
from pipelines.torch_loader import TorchLoader
from prep.errors import UserError

LOADERS = ("torch", "dali", "ffcv")
PROBE_SECONDS = 2.0
"""Of probing, all loaders together; starting them comes on top."""


@dataclass(frozen=True, slots=True)
class Host:
    """What a loader may use here. device: where DALI decodes. betons: the exported files that FFCV reads, in the order
    of the crop bank. threads: of each loader.
    """

    device: str = "cpu"
    threads: int = 1
    betons: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """A loader's name and, for a person, why."""

    name: str
    why: str


def make_loader(name: str, draws: Draws, host: Host) -> Loader:
    """One of LOADERS. Raises `UserError` when it cannot work here, saying what to install or to do."""
    if name == "torch":
        return TorchLoader(draws, host.threads)
    if name == "dali":
        from pipelines.dali_loader import DaliLoader

        dali: Loader = DaliLoader(draws, max(1, host.threads), host.device)
        return dali
    if name == "ffcv":
        from pipelines.ffcv_loader import FfcvLoader

        if not host.betons:
            remedy = "Export the view (python -m prep.export STORE --ffcv F.beton --view V), and give --beton F.beton."
            raise UserError("--loader ffcv", "wanted an exported .beton file, found none", remedy)
        return FfcvLoader(draws, host.betons, max(1, host.threads))
    raise UserError("--loader", f"wanted one of auto, {', '.join(LOADERS)}, found {name}", "Choose one of them.")


def measure(loader: Loader, batch_size: int, seconds: float) -> float:
    """Images a second of a loader alone, after its first batch."""
    batches = iter(loader)
    try:
        next(batches)
        num_batches, start = 0, perf_counter()
        while num_batches == 0 or perf_counter() - start < seconds:
            next(batches)
            num_batches += 1
        return num_batches * batch_size / (perf_counter() - start)
    finally:
        close = getattr(batches, "close", None)
        if close:
            close()


def choose(draws: Draws, host: Host, make: Callable[[str, Draws, Host], Loader] = make_loader) -> Choice:
    """Probe every loader that works here for PROBE_SECONDS in all, and say which one to take.

    torch is the judge of the others and comes without asking; another must be a tenth faster to be worth it. Damage in
    the store is not a loader's fault and is raised.
    """
    rates, reasons = {}, []
    for name in LOADERS:
        try:
            rates[name] = measure(make(name, draws, host), draws.local_batch_size, PROBE_SECONDS / len(LOADERS))
        except Exception as error:  # a loader's own library may raise anything; ours is torch's and is told
            if name == "torch" or isinstance(error, DamagedError):
                raise
            problem = error.problem if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            reasons.append(f"{name} not: {problem}")
    best = max(rates, key=lambda name: rates[name] * (1.1 if name == "torch" else 1.0))
    told: Sequence[str] = [f"{name} {rate:,.0f} img/s" for name, rate in rates.items()]
    return Choice(best, "; ".join((*told, *reasons)))
