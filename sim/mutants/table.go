package main

import "slices"

// table returns all mutants, from the heart outwards.
func table() []mutant {
	return slices.Concat(coreMutants, quotaMutants, sessionMutants, custodyMutants, countMutants, engineMutants, edgeMutants, lawMutants, worldMutants, storesMutants, journalMutants, limitMutants, linkMutants)
}
