"""Fuzz targets for the parsers of what strangers hand in: `make fuzz`, `python -m fuzz --help`.

A target is a module here, with what it reads in its docstring and

    SEEDS: what the fuzzer begins with: small files, made here
    TOKENS: words of the format, which it inserts
    read(data): parses data; whatever it raises is a find

so `read` itself catches the errors that its parser documents.
"""
