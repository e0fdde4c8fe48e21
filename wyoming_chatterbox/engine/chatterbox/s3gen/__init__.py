"""Speech tokens → samples: Chatterbox's S3Gen, the flow decoder (tokens → mel frames) and the vocoder (mel → samples).

`encoder.py` and `estimator.py` are the two networks of the flow decoder, `flow.py` solves its ODE chunk by chunk,
`vocoder.py` and `source.py` turn mel frames into samples, and `graphs.py` captures their work as CUDA graphs.
"""
