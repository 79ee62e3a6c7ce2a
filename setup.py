"""Compiles the hot modules (see server/build.py). Everything else about the package is in pyproject.toml.

`pip install .` compiles into the package that it installs. In a checkout `make` compiles by `setup.py build_ext
--inplace`; an editable install does not compile, because sources change. If compiling is not possible (no compiler, no
headers of Python), it says so, and nodes run the sources. pip shows that to nobody: with DYN_BUILD=compiled in the
environment, as in ops/Dockerfile, it is an error instead.
"""

import gc
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent))
from server.build import COMPILED, HOTTEST, NATIVE, ROOT, compiled_sources, fingerprint, is_current

LIBRARY = "dyn__mypyc"
TEMPORARY = "build/mypyc"
# The files of C that mypyc makes of the modules which are worth more of gcc's time.
HOTTEST_FILES = {f"__native_{source.removesuffix('.py').replace('/', '___')}.c" for source in HOTTEST}
HEADER = '#include "__native_dyn.h"\n#include "__native_internal_dyn.h"\n'  # the beginning of each file of a module


class CompileSideBySide(build_ext):
    """Compiles the files of an extension on all cores; setuptools takes one after the other.

    gcc's time for a file that mypyc made is that of its headers, 1.8 MB for each, and that of the optimization. So the
    headers are compiled once for each level. -Og takes less than half of the time of -O2, and makes no larger library.
    """

    def build_extension(self, extension):
        """As setuptools does it, but for the order of the files, and for the flags of those that mypyc made."""
        compiler = self.compiler

        def compile_all(sources, output_dir=None, macros=None, include_dirs=None, debug=0, extra_preargs=None,
                        extra_postargs=None, depends=None):  # fmt: skip
            macros, names, after, options, build = compiler._setup_compile(
                output_dir, macros, include_dirs, sources, depends, extra_postargs
            )
            arguments = compiler._get_cc_args(options, debug, extra_preargs)
            names = sorted(names, key=lambda name: -os.path.getsize(build[name][0]))  # no core is idle at the end

            def compile_header(level):
                header = Path(TEMPORARY) / f"headers{level}.h"
                header.write_text(HEADER)
                compiler._compile(f"{header}.gch", str(header), ".h", arguments, [*after, level], options)
                return [level, "-include", str(header)]

            def compile_one(name):
                file = Path(build[name][0]).name
                level = "-O2" if file in HOTTEST_FILES else "-Og"
                flags = with_header[level] if file.startswith("__native_") else []
                compiler._compile(name, *build[name], arguments, [*after, *flags], options)

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                levels = ["-Og", "-O2"] if extension.name == LIBRARY else []
                with_header = dict(zip(levels, pool.map(compile_header, levels), strict=True))
                list(pool.map(compile_one, names))
            return names

        compiler.compile = compile_all
        super().build_extension(extension)


def try_modules(place):
    """Imports a compiled module in a process of its own: if mypyc made its library otherwise, nodes would not start.

    Of the others it looks for the initializers only: what they import may be missing where a wheel is built.
    """
    trial = (
        "import sys; from importlib import import_module; from pathlib import Path; import server.build as build; "
        "place = sys.argv[1]; sys.path.append(place); sys.meta_path.insert(0, build.CompiledModules(Path(place))); "
        "library = import_module('dyn__mypyc'); "
        "names = build.compiled_names(); "
        "lacking = [name for name in names if not hasattr(library, build.initializer_name(name))]; "
        "assert not lacking, 'the library has no initializer of ' + ', '.join(lacking); "
        "from server.core.records import versions; assert versions.__file__.startswith(place), versions.__file__"
    )
    done = subprocess.run(
        [sys.executable, "-c", trial, str(place)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"Python ended with {done.returncode}"])[-1]
        raise RuntimeError(f"the compiled modules cannot be imported: {reason}")


def generate():
    """Lets mypyc make the files of C. Returns the extension modules."""
    from mypyc.build import mypycify

    gc.disable()  # a quarter of the time: nearly all that mypy makes stays until the end
    library = mypycify(
        compiled_sources(),
        opt_level="2",
        debug_level="0",
        group_name="dyn",
        target_dir=TEMPORARY,
        multi_file=True,  # a file of C for each module: gcc takes 2.5 times as long for one file with all of them
    )[0]  # the others are a file a module: server/build.py finds them instead
    gc.freeze()
    gc.enable()
    library.extra_compile_args.append("-w")  # gcc spends half of its time on warnings
    return [library, Extension("dyn_native", [str(NATIVE / "native.c")])]


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
        print("compiling the hot modules, which takes one to two minutes", file=sys.stderr)
        made_of = fingerprint()
        try:
            self.distribution.ext_modules = generate()
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
