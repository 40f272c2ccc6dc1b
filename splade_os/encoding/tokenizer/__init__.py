"""What a model folder says about its tokenizer, and the tokenizer that transformers makes of it.

::

    files.py      which files there are, what they say, which class reads them
    classes.py    what each tokenizer class builds, whatever tokenizer.json says
    added.py      added and special tokens, in the order in which they get their ids
    build.py      files → the tokenizer that runs, and in what it differs from tokenizer.json
    convert.py    what only transformers can read: converted once, or run by it
    check.py      thirty texts, against transformers' own
"""
