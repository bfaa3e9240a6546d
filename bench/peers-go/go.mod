module gotimerbench

go 1.27
