"""FedGKT in Flower: small networks on the nodes, a large one on the server, features up, logits down."""
