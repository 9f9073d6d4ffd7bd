module pinfold.test/workload

go 1.21
