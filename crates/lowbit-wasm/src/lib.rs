//! lowbit for browsers: each function is one call into `lowbit::port`.
