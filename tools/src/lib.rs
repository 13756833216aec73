//! Operator tools that run beside a node.
