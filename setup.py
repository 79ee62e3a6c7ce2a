"""Compiles the hot rooms of the code (see server/build.py); all else about the package stands in pyproject.toml.

`pip install .` compiles into the package that it installs. In a checkout `make` does it, by `setup.py build_ext
--inplace`: an editable install does not, as sources change. Where it cannot be done (no compiler, no headers of Python)
it says so, and nodes run the sources.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent))
from server.build import COMPILED, compiled_sources, fingerprint, is_current

TEMPORARY = "build/mypyc"


class CompileBeside(build_ext):
    """Compiles into a folder of its own, beside the sources and not over them."""

    def run(self):
        """Does nothing when the folder is current."""
        place = COMPILED if self.inplace else Path(self.build_lib) / COMPILED
        if self.editable_mode or is_current(place):
            return
        shutil.rmtree(place, ignore_errors=True)
        print("compiling what is hot, for a minute or so", file=sys.stderr)
        made_of = fingerprint()
        try:
            from mypyc.build import mypycify

            extensions = mypycify(
                compiled_sources(), opt_level="2", debug_level="0", group_name="dyn", target_dir=TEMPORARY
            )
            for extension in extensions:
                extension.extra_compile_args.append("-w")  # looking for what to warn of takes gcc half of its time
            self.distribution.ext_modules = extensions
            compilation = build_ext(self.distribution)
            compilation.build_lib, compilation.build_temp = str(place), TEMPORARY
            compilation.parallel = os.cpu_count()  # nearly all of the code is one file; many small ones stand beside it
            compilation.ensure_finalized()
            compilation.run()
        except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever it is: the sources run, too)
            print(f"not compiled, so nodes will run the sources: {error}", file=sys.stderr)
        else:
            (place / "fingerprint").write_text(made_of)


class CompiledDistribution(Distribution):
    """Its wheel is for one Python and one kind of machine."""

    def has_ext_modules(self):
        """There are extension modules, though only `CompileBeside` knows which."""
        return True


setup(distclass=CompiledDistribution, cmdclass={"build_ext": CompileBeside})
