#!/usr/bin/env bash
# Take out of a virtual environment what training never looks at. `trim.sh FOLDER`
set -euo pipefail
cd "$1"/lib/python3*/site-packages

# SUMO: of its programs those that simulate and build networks; neither its windows, nor its tools, nor what C++ needs.
find sumo/bin -type f ! -name sumo ! -name netgenerate ! -name netconvert -delete
rm -rf sumo/{include,cmake,tools,lib64,share,doc,docs} sumo/data/{po,locale,3D,tests}
# Data that the package sumo-data has once more.
rm -rf sumo_data

# The libraries of libsumo are those of SUMO, file by file.
diff -rq eclipse_sumo.libs libsumo.libs
rm -r libsumo.libs
ln -s eclipse_sumo.libs libsumo.libs
# SUMO loads OpenGL at its start, whatever it is asked for; Debian's package would bring a compiler for shaders.
cp -L /usr/lib/x86_64-linux-gnu/{libGL.so.1,libGLX.so.0,libGLdispatch.so.0} eclipse_sumo.libs/

# What compiles and tests torch.
find torch/bin -type f ! -name torch_shm_manager -delete
rm -rf torch/{include,share,test} torch/lib/*.a
# Tests, also of others; and what is only needed to install something.
find . -type d -name tests -prune -exec rm -rf {} +
rm -rf pip pip-* setuptools setuptools-* ../../../bin/pip*
