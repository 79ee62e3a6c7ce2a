"""Compiles the hot modules (see server/build.py). Everything else about the package is in pyproject.toml.

`pip install .` compiles into the package that it installs. In a checkout `make` compiles by `setup.py build_ext
--inplace`; an editable install does not compile, because sources change. If compiling is not possible (no compiler, no
headers of Python), it says so, and nodes run the sources.
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
        """Compiles unless the folder is current."""
        place = COMPILED if self.inplace else Path(self.build_lib) / COMPILED
        if self.editable_mode or is_current(place):
            return
        shutil.rmtree(place, ignore_errors=True)
        print("compiling the hot modules, which takes about a minute", file=sys.stderr)
        made_of = fingerprint()
        try:
            from mypyc.build import mypycify

            extensions = mypycify(
                compiled_sources(), opt_level="2", debug_level="0", group_name="dyn", target_dir=TEMPORARY
            )
            for extension in extensions:
                extension.extra_compile_args.append("-w")  # gcc spends half of its time on warnings
            self.distribution.ext_modules = extensions
            compilation = build_ext(self.distribution)
            compilation.build_lib, compilation.build_temp = str(place), TEMPORARY
            compilation.parallel = os.cpu_count()  # one large file holds nearly all of the code, beside many small ones
            compilation.ensure_finalized()
            compilation.run()
        except (Exception, SystemExit) as error:  # noqa: BLE001 (after any error the sources still run)
            print(f"not compiled, so nodes will run the sources: {error}", file=sys.stderr)
        else:
            (place / "fingerprint").write_text(made_of)


class CompiledDistribution(Distribution):
    """A distribution whose wheel is for one Python and one kind of machine."""

    def has_ext_modules(self):
        """True: there are extension modules, though only `CompileBeside` knows which."""
        return True


setup(distclass=CompiledDistribution, cmdclass={"build_ext": CompileBeside})
