# Targets of the examples. Included by the Makefile, whose rule builds examples/NAME.c.

.PHONY: demo-server

demo-server: $(B)/examples/server ## green threads: an HTTP server with deadlines, and its clients, about 10 s
	@$(B)/examples/server $(SERVER)
