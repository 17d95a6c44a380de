//! lowbit for Node: each function is one call into `lowbit::port`.
