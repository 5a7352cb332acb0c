"""Compiles the hot loops when the package is built or installed, where a C compiler is at hand.

Without one, or with ``HOLDFAST_PURE=1``, the package is pure Python: everything works, only slower.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "src/holdfast/native/_speedups.c"
MODULE = "holdfast.native._speedups"


class NativeHook(BuildHookInterface[Any]):
    """Adds the compiled module to the wheel, or says why there is none."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or not self._may_compile():
            return
        try:
            made = compile_in_place(Path(self.root))
        except Exception as error:  # no compiler, no headers: whatever it is, Python does the work
            self.app.display_warning(f"the hot loops stay in Python: {type(error).__name__}: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append(str(made.relative_to(self.root)))

    def _may_compile(self) -> bool:
        # Free-threaded builds would get the lock back for a module that does not know them.
        threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
        return not (os.environ.get("HOLDFAST_PURE") or threaded or sys.implementation.name != "cpython")


def compile_in_place(root: Path) -> Path:
    """Compile the module beside its source; answer its file."""
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    extension = Extension(MODULE, [str(root / SOURCE)], extra_compile_args=[] if os.name == "nt" else ["-O3"])
    command = build_ext(Distribution({"ext_modules": [extension], "package_dir": {"": str(root / "src")}}))
    command.build_temp = str(root / "build")
    command.inplace = True
    command.ensure_finalized()
    command.run()
    return Path(command.get_ext_fullpath(MODULE))
