"""Text → speech tokens: Chatterbox's T3, a Llama that reads a voice and a text.

`tokens.py` makes the tokens of an utterance, `decode.py` computes the steps they take, several sequences' at once where
asked to. What a sequence changes is its own (`sequence.py`, `kv_cache.py`); what is kept of a voice is immutable and
shared (`prefix_cache.py`). `llama.py` is the network, `sampling.py` draws from its logits, `captured_steps.py` has the
CUDA graphs.
"""
