"""The models that GRAM is compared with."""
