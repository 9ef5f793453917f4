"""Every promise of the family, tried on any optimizer or backbone: ours, a third party's, a user's own."""
