# The scripts work without just; this lists them and saves typing. `pip install rust-just`.

# List the recipes.
default:
    @just --list

# Make .venv what pyproject.toml says.
setup:
    bash -c 'source scripts/_env'

# The gate, or some of its steps: just check types lint
check *steps:
    scripts/check {{steps}}

# The gate and every test.
test:
    scripts/test

# Some tests, without the gate: just one tests/unit/sdk -k priority
one *arguments:
    scripts/test --only {{arguments}}

# Real work through Postgres, a broker and two workers.
demo:
    scripts/demo

# Throughput, latency, memory: just bench --quick
bench *arguments:
    scripts/bench {{arguments}}

# Kill, stop and cut a cluster under load: just chaos --seconds 60
chaos *arguments:
    scripts/chaos {{arguments}}

# A mixed load for long, to see what grows: just soak --minutes 60
soak *arguments:
    scripts/soak {{arguments}}

# The Python code of the protos, and their descriptors.
gen:
    scripts/gen-proto
    scripts/proto-descriptors

# The documentation as a site, served on loopback.
docs:
    bash -c 'source scripts/_env && mkdocs serve'
