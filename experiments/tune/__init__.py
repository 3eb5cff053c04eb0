"""Which hyper-parameters of the fit are best, on renders with known truth."""
