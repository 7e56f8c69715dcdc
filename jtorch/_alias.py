"""`torch` as a second name for jtorch: `import torch` gives the very module object that `import jtorch` gives.

Only the standard library is imported here, and jtorch itself is looked up, not imported from: a loader's worker
process installs the alias before it has (and often without ever having) the array library.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

OURS, THEIRS = "jtorch", "torch"
VERSION = "2.13.0"  # of the API; what importlib.metadata says of the distribution `torch`


def _our_name(name: str) -> str:
    return OURS + name[len(THEIRS) :]


class _Distribution(importlib.metadata.Distribution):
    """The metadata that packages look up to learn torch's version."""

    def read_text(self, filename: str) -> str | None:
        if filename in ("METADATA", "PKG-INFO"):
            return f"Metadata-Version: 2.1\nName: {THEIRS}\nVersion: {VERSION}\n"
        return f"{THEIRS}\n" if filename == "top_level.txt" else None

    def locate_file(self, path: Any) -> Path:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Path(sys.modules[OURS].__path__[0]).parent / path


class _Loader(importlib.abc.Loader):
    """Hands out our module, as it is."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(_our_name(spec.name))
        # The import system is about to write the alias's spec onto it; `exec_module` puts its own back.
        self.own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.own_spec


class Finder(importlib.abc.MetaPathFinder):
    """Finds `torch` and its submodules as jtorch's. Names that jtorch has not stay unfound."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != THEIRS and not fullname.startswith(THEIRS + "."):
            return None
        own = importlib.util.find_spec(_our_name(fullname))
        if own is None:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, _Loader(), origin=own.origin)
        spec.submodule_search_locations = own.submodule_search_locations
        return spec

    @staticmethod
    def find_distributions(  # pyright: ignore[reportIncompatibleMethodOverride]
        context: importlib.metadata.DistributionFinder.Context | None = None,
    ) -> Iterable[importlib.metadata.Distribution]:
        name = None if context is None else context.name
        if name is None or name.lower() == THEIRS:
            yield _Distribution()


def install() -> None:
    """Makes `import torch` mean jtorch in this process, from now on. Calling it again changes nothing.

    RuntimeError where another `torch` has been imported already: what holds it would not see the change.
    """
    if any(isinstance(finder, Finder) for finder in sys.meta_path):
        return
    ours = sys.modules.get(OURS) or importlib.import_module(OURS)
    present = sys.modules.get(THEIRS)
    if present is not None and present is not ours:
        where = getattr(present, "__file__", None) or "unknown file"
        raise RuntimeError(
            f"jtorch.install(): a module named 'torch' is imported already ({where}). "
            "Call jtorch.install() before anything imports torch."
        )
    sys.meta_path.insert(0, Finder())
    # Our submodules keep their one identity under the new names too, those imported before included.
    for name, module in list(sys.modules.items()):
        if name == OURS or name.startswith(OURS + "."):
            sys.modules.setdefault(THEIRS + name[len(OURS) :], module)
