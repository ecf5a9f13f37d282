"""Compiled loops that play the networks as streams, on one core, in blocks of any size.

A player has one method, `push`: as many samples out as in, without delay. It keeps what its network reads of the past,
and computes nothing twice, so that the sizes of blocks do not change the output. What stands still while it plays
(knobs, statistics of normalisation) is folded into the weights when the player is made.

PyTorch spends such small networks' time around the arithmetic; here almost all of it is sums of products in registers:

    kernels          that operation, `TILE` adjacent numbers at a time, written in LLVM's code, and activations
    program          feed-forward networks: operations on rows of samples; the adjacent numbers are samples of time
    recurrent        LSTM and GRU, sample by sample; the adjacent numbers are gates
    autoregressive   the next-sample network: one stream sample by sample, the adjacent numbers are units; or many
                     streams in lock-step, by matrix products
    ballistics       followers of levels, with their gradients, and the compressor
    convolver        long linear responses, by FFT in parts

Loops are compiled when they are first called, for the processor that is there. How many sums they keep at once follows
from its number of registers alone. That was measured against other choices (docs/benchmarks.md, Effects): on processors
of either kind the choice is the fastest, or within a tenth of it. To measure them at first use would take two seconds
of compiling for each, on cores whose speed often changes by more than that tenth. All choices give the same bits on one
processor.
"""
