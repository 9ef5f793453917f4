"""From a SMILES to a batch: integer codes, columns, arrays, the cache, batches by index arithmetic."""
