//! Recovery: a node killed at any moment comes back with everything it acknowledged, once.
