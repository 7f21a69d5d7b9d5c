// Package siege holds no code, only tests of the program as operators run it: its
// real binary, in processes of their own, killed with SIGKILL while they work on
// one repository in a directory or on an S3 server.
//
// What stands next to it proves the same promises in other ways: package trial
// interrupts every storage operation inside one process, package ledger searches
// the protocol's states. Here nothing is simulated. A gate in front of the server
// counts the requests of one machine and kills its process before one of them,
// in the middle of its body, or after it was done and before the answer came; in a
// directory the clock decides. A book keeps what the program has promised: which
// points were reported, with the sum of what they hold, and which of them any
// forget may have dropped. At the end the repository is held against the book.
package siege
