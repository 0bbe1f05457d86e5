//! Derives the list of a struct's fields.

use proc_macro::TokenStream;
use proc_macro2::Span;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, parse_macro_input};

/// Adds a constant `FIELDS` with the names of the struct's fields.
#[proc_macro_derive(Describe)]
pub fn describe(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let Data::Struct(body) = &input.data else {
        return Error::new(Span::call_site(), "only structs have fields").to_compile_error().into();
    };
    let names: Vec<String> = match &body.fields {
        Fields::Named(fields) => {
            fields.named.iter().filter_map(|field| field.ident.as_ref()).map(|name| name.to_string()).collect()
        }
        Fields::Unnamed(_) | Fields::Unit => Vec::new(),
    };
    let name = &input.ident;
    let (generics, types, bounds) = input.generics.split_for_impl();
    quote! {
        impl #generics #name #types #bounds {
            /// The names of the fields, in order.
            pub const FIELDS: &'static [&'static str] = &[#(#names),*];
        }
    }
    .into()
}
