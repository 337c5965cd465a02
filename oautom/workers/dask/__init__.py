"""Internal. Dask clusters as workers. Imported only when an executor is a Dask client.

On the scheduler: `ledger`. On a worker: `desk`. In this program: `link` and `workers`.
"""
