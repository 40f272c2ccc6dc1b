"""Fine-tuning of SPLADE models: recipes, losses, regularisers, the trainer."""
