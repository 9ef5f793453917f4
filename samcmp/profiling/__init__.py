"""Profile cases -> Records: speed, memory and energy of optimizers measured side by side."""
