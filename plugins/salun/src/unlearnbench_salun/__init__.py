"""SalUn (Fan et al., ICLR 2024) for UnlearnBench: weight saliency and random labels."""
