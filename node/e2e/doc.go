// Package e2e tests farhop from the outside: real processes of the real
// binary, joined by tickets, with unchanged MQTT clients (mosquitto) and the
// link emulator between them.
//
// It owns no product code: everything is in its tests, which start, cut, kill
// and look at nodes the way an operator does. It never reaches into a node;
// what it knows of one comes from the admin API, the log and the clients.
// Nobody imports it. The tests need Linux and, for most of them, the mosquitto
// clients; without them they are skipped and say how to install them, unless
// FARHOP_E2E=require is set, as it is in continuous integration. FARHOP_BIN
// names a binary to test instead of the one built from this tree.
package e2e
