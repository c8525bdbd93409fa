"""Other programs that encrypt a file, each as a :class:`~benchmarks.peers.peer.Peer`."""
