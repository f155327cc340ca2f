/* jextract skips variables of incomplete type: complete them so that their addresses are emitted. */
struct ompi_predefined_communicator_t { char opaque; };
struct ompi_predefined_datatype_t { char opaque; };
struct ompi_predefined_op_t { char opaque; };
struct ompi_predefined_errhandler_t { char opaque; };
struct ompi_predefined_info_t { char opaque; };
#include <mpi.h>
