"""From a data location to loaders of normalised image tensors; imports neither Ray nor MLflow.

The flow, one module a step: `sources` opens a location, after `s3` has copied what is in an object store to
this machine; `plan` checks every image once and fixes which train and which validate; `transforms` turns an
image into a tensor; `loading` hands each worker its part of every batch. What is too large for a machine's
`cache` goes through `streaming`.
"""
