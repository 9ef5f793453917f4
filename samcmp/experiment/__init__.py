"""One comparison, from what was asked to stored Records: config, cases, plan, cost, keys, run, store."""
