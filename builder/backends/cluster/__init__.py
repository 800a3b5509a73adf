"""Steps on a Dask cluster: which worker serves which leg, and the store through which bytes move."""
