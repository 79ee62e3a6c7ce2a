"""Compiles the hot modules (see server/build.py). Everything else about the package is in pyproject.toml.

`pip install .` compiles into the package that it installs. In a checkout `make` compiles by `setup.py build_ext
--inplace`; an editable install does not compile, because sources change. If compiling is not possible (no compiler, no
headers of Python), it says so, and nodes run the sources. pip shows that to nobody: with DYN_BUILD=compiled in the
environment, as in ops/Dockerfile, it is an error instead.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent))
from server.build import COMPILED, NATIVE, RARE, ROOT, compiled_sources, fingerprint, is_current

TEMPORARY = "build/mypyc"
# The files of C of the modules that are worth less of gcc's time.
RARE_FILES = {f"{TEMPORARY}/__native_{source.removesuffix('.py').replace('/', '___')}.c" for source in RARE}


class CompileSideBySide(build_ext):
    """Compiles the files of an extension on all cores; setuptools takes one after the other."""

    def build_extension(self, extension):
        """As setuptools does it, but for the order of the files."""
        compiler = self.compiler

        def compile_all(sources, output_dir=None, macros=None, include_dirs=None, debug=0, extra_preargs=None,
                        extra_postargs=None, depends=None):  # fmt: skip
            macros, names, after, options, build = compiler._setup_compile(
                output_dir, macros, include_dirs, sources, depends, extra_postargs
            )
            arguments = compiler._get_cc_args(options, debug, extra_preargs)
            names = sorted(names, key=lambda name: -os.path.getsize(build[name][0]))  # no core is idle at the end

            def compile_one(name):
                level = ["-O1"] if build[name][0] in RARE_FILES else []
                compiler._compile(name, *build[name], arguments, [*after, *level], options)

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(compile_one, names))
            return names

        compiler.compile = compile_all
        super().build_extension(extension)


def try_modules(place):
    """Imports a compiled module in a process of its own: if mypyc made its library otherwise, nodes would not start."""
    trial = (
        "import sys; from pathlib import Path; from server.build import CompiledModules; place = sys.argv[1]; "
        "sys.path.append(place); sys.meta_path.insert(0, CompiledModules(Path(place))); "
        "from server.core.records import versions; assert versions.__file__.startswith(place), versions.__file__"
    )
    done = subprocess.run(
        [sys.executable, "-c", trial, str(place)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the compiled modules cannot be imported: {done.stderr}")


class CompileBeside(build_ext):
    """Compiles into a folder of its own, beside the sources and not over them."""

    def run(self):
        """Compiles unless the folder is current."""
        place = COMPILED if self.inplace else Path(self.build_lib) / COMPILED
        if self.editable_mode or is_current(place):
            return
        shutil.rmtree(place, ignore_errors=True)
        if is_current(COMPILED):  # `make compiled` has made it: a wheel takes a second
            shutil.copytree(COMPILED, place)
            return
        print("compiling the hot modules, which takes two to three minutes", file=sys.stderr)
        made_of = fingerprint()
        try:
            from mypyc.build import mypycify

            extensions = mypycify(
                compiled_sources(),
                opt_level="2",
                debug_level="0",
                group_name="dyn",
                target_dir=TEMPORARY,
                multi_file=True,  # a file of C for each module: gcc takes 2.5 times as long for one file with all of them
            )
            library = extensions[0]  # the others are a file a module: server/build.py finds them instead
            library.extra_compile_args.append("-w")  # gcc spends half of its time on warnings
            self.distribution.ext_modules = [library, Extension("dyn_native", [str(NATIVE / "native.c")])]
            compilation = CompileSideBySide(self.distribution)
            compilation.build_lib, compilation.build_temp = str(place), TEMPORARY
            compilation.ensure_finalized()
            compilation.run()
            try_modules(place.resolve())
        except (Exception, SystemExit) as error:
            if os.environ.get("DYN_BUILD") == "compiled":
                raise
            print(f"not compiled, so nodes will run the sources: {error}", file=sys.stderr)
        else:
            (place / "fingerprint").write_text(made_of)


class CompiledDistribution(Distribution):
    """A distribution whose wheel is for one Python and one kind of machine."""

    def has_ext_modules(self):
        """True: there are extension modules, though only `CompileBeside` knows which."""
        return True


setup(distclass=CompiledDistribution, cmdclass={"build_ext": CompileBeside})
