# The Promela models: protocols of the library for readers, and wrong variants of them.

.PHONY: spin
need_spin = $(call need,spin,the Promela model checker,Debian: apt-get install spin)

spin: ## the protocol models in Promela: right ones pass, wrong ones fail (SPIN_RUN="poller READ_OUTSIDE": one, with its trail)
	$(need_spin)
	$(need_cc)
	@CC="$(CC)" OUT=$(B)/spin sh spin/run.sh $(SPIN_RUN)
