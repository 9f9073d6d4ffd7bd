//! The daemon pinfoldd and the command line pinfold.
#![forbid(unsafe_code)]
