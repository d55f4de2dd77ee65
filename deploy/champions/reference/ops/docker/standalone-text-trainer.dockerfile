# Python 3.11 with torch, transformers, trl, peft and datasets. Assay reads the entry point from here and supplies
# the interpreter and the libraries itself; see README.md.
FROM assay/training-runtime:2026-11
COPY scripts /workspace/scripts
WORKDIR /workspace/scripts
ENTRYPOINT ["python", "-m", "text_trainer"]
