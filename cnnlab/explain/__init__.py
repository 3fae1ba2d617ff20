"""Looking inside a trained network: attributions and checks of them, filters, activations, patches, embeddings; one page."""
