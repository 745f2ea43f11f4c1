"""One file per label protocol: how labels are weakened."""
