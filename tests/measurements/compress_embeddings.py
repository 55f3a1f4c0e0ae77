"""Not a test: half of a sentence-embedding model, on real text, run by hand.

    python tests/measurements/compress_embeddings.py ENCODER DATA
        [--seeds 1 2 3] [--steps N] [--learning-rate X] [--out FOLDER]

ENCODER is all-MiniLM-L6-v2 as sentence-transformers saved it; DATA holds text/train.parquet and
own/stsb_train.csv (learnt from, without scores) and own/stsb_dev.csv (scored). Each seed goes
through `compress_embeddings`; beside it the student as cut, and one from random weights that is
trained alike. The time is that of the whole call: map, teacher's embeddings, training, scores,
export. The teacher's embeddings are computed again for each seed, as for a first student.
"""
