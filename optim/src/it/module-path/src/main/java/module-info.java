/** A program on the module path that depends on org.qlora4j:optim alone. */
module consumer {
    requires org.qlora4j.optim;
}
