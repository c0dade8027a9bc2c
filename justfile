# Every recipe works with or without an activated environment: the project's own comes first on the PATH.
export PATH := justfile_directory() / ".venv/bin:" + env("PATH")

# List the recipes.
_default:
    @just --list --unsorted

# Everything that has to hold before a commit; stops at the first failure.
check: fmt lint types layers test

# Is every file formatted?
fmt:
    ruff format --check .

# Ruff, every rule it has (exceptions stand in pyproject.toml, each with its reason).
lint:
    ruff check .

# mypy, strict, over the package, its tests and its benchmarks; pyright over the actors, whose types users write against.
types:
    mypy
    PYRIGHT_PYTHON_IGNORE_WARNINGS=1 pyright

# Imports point one way: gateway > runtime > actors, and inside each of them.
layers:
    lint-imports

# The tests, in random order on all cores; arguments go to pytest: `just test tests/actors -k mailbox`.
test *arguments:
    pytest {{ arguments }}

# Kill a server under load so many times and look for what was lost or done twice: `just crash 1000 --seed 7`.
crash *arguments:
    python -m tests.crash {{ arguments }}

# Plant one bug after another in that server, and see each found; a few minutes.
crash-teeth:
    python -m tests.crash.teeth

# Keep a server under a mixed load for so long and look for what grows, slows or is left: `just soak --minutes 30 --kills 4`.
soak *arguments:
    python -m tests.soak {{ arguments }}

# Cut the power at thousands of moments of recorded stores and nodes, and check what is left; about three minutes.
powerloss images="5000" *arguments:
    python -m tests.powerloss --images {{ images }} {{ arguments }}

# Run the gateway from this checkout: `just serve --data opscore-data --port 8080`.
serve *arguments:
    opscore serve {{ arguments }}

# Watch workflows run across three agents and survive a kill -9.
demo *arguments:
    opscore demo {{ arguments }}

# Compare web frameworks behind the bridge (needs wrk, and `pip install --group bench`); prints the table of results.
bench *arguments:
    python -m bench.gateway.frameworks {{ arguments }}

# Compare actor libraries (needs `pip install --group bench-actors`, and erlang for Erlang's part); about four minutes.
bench-actors *arguments:
    python -m bench.actors {{ arguments }}

# Compare commits with SQLite's, LMDB's and the disk's own; about four minutes, on the disk that holds the folder for temporary files.
bench-durability *arguments:
    python -m bench.durability {{ arguments }}

# Measure how long it takes to open a store with up to a million sessions; about five minutes, and 4 GiB of that disk.
bench-opening *arguments:
    python -m bench.durability.opening {{ arguments }}

# Compare tasks a second with DBOS, huey, dramatiq, Celery and Procrastinate (needs `pip install --group bench-tasks`, and redis-server and postgresql); about a quarter of an hour, on that disk.
bench-tasks *arguments:
    python -m bench.tasks {{ arguments }}

# Play so many worlds, each drawn from a seed of its own, with progress; what breaks a promise is made smaller and told.
sim worlds="2000" *arguments:
    python -m tests.runtime.simulation.long_run --worlds {{ worlds }} {{ arguments }}

# Plant each of the known bugs and see that the simulator finds it; some minutes.
mutants *arguments:
    python -m tests.runtime.simulation.mutants.hunt {{ arguments }}

# Measure how fast worlds are played; about three minutes.
bench-simulation *arguments:
    python -m bench.simulation {{ arguments }}

# Format, and repair what ruff can repair by itself.
fix:
    ruff check --fix .
    ruff format .

# The documentation, with its reference made from the code, as a static site in site/; a warning is an error.
docs:
    sphinx-build --quiet --fail-on-warning --fresh-env --builder html docs site

# The changelog as it would read if this were released now.
changelog:
    towncrier build --draft --version next
